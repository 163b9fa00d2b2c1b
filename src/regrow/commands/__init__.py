"""The subcommands of `regrow`, a module each. They need the packages of `regrow[lab]`."""
