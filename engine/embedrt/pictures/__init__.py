"""Pictures: read, made to patches, and embedded beside texts. Pillow is imported when the first one is read."""
