"""R2-D2: ridge regression, differentiated through."""
