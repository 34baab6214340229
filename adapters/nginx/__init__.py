"""nginx: the dialect of `auth_request`, and the configurations that nginx loads."""
