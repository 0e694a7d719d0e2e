"""MetaOptNet: convex heads, differentiated at their solution."""
