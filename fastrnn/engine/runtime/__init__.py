"""How functions become machine code and how calls reach it: compiling, the cache, linking, threads, memory."""
