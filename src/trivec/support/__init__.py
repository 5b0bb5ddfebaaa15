"""What stands below everything and knows nothing of models: arguments, files, forks, places on disk."""
