"""The only place for names of Numba and llvmlite that are not public: what each is for, and the versions tried."""
