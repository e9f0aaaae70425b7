"""From a source to a folder of files: download, verify, unpack."""
