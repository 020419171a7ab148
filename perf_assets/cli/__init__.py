"""The commands a person types, one module a group. Each makes one library call and shows what came of it."""
