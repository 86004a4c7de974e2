"""One node: reads the configuration and puts the parts together. The only importer of everything below."""
