"""LLVM's linker and its knowledge of the host: names for addresses, and the CPU's features."""

from llvmlite.binding import add_symbol, address_of_symbol, get_host_cpu_features, get_host_cpu_name

__all__ = ["add_symbol", "address_of_symbol", "get_host_cpu_features", "get_host_cpu_name"]
