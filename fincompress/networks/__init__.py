"""A network found, loaded, fed, trained and scored."""
