"""The subcommands of ``dragoman-train`` beside training itself."""
