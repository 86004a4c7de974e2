"""A volume of a million files: built through the holder's own code, then measured (see __main__)."""
