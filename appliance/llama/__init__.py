"""The only importer of llama_cpp here. Importing this package loads nothing native: only its modules do."""
