"""What every room needs: errors, files, random streams, intervals."""
