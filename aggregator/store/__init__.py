"""What a fleet's gateway knows, in a database: SQLite in a file, or PostgreSQL by a URL."""
