"""The `fairvisor` command: click commands without logic of their own."""
