"""Reports as people read them: run records, tables, pictures, pages in Markdown."""
