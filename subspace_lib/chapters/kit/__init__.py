"""What several chapters need: parameters and studies, page pieces, tables, figure style."""
