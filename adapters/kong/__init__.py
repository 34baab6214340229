"""Kong: the plugin, and the declarative configuration that switches it on."""
