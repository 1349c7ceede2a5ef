"""A study of the switch from X to Dom-X and Bulk-X, with its judge, figures and tables."""
