"""The rivals of TAS, one method per file. A new file with a method in it is found by itself."""
