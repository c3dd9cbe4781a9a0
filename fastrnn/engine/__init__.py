"""The compiled engine: all code that uses Numba.

`numba_private` has all uses of private names of Numba, `runtime` compiles, links and caches functions and distributes work
to threads, `kernels` are functions of arrays, `recurrence` runs cells over sequences, and `equations` makes cells from
Python functions. Each imports only from those before it.

How a function becomes machine code
-----------------------------------
A function decorated with `runtime.jit` is compiled at its first call with arguments of new types. Functions that it calls
are inlined (`inlined`, and the bodies that cells give to stubs) or compiled once separately (`runtime.linking`: `separate`,
and `on_demand` for functions that only some calls need). Numba compiles the function to LLVM code, and LLVM to machine code,
with one round of optimisation (`numba_private.pipeline`). `runtime.cache` keeps the machine code in a file, which later
processes load; LLVM's linker gives loaded code the addresses of the functions that it refers to (`numba_private.symbols`).

How a call reaches it
---------------------
`recurrence.run` decides on blocks of rows and threads (`recurrence.plans`), takes memory (`runtime.memory`), has everything
compiled that the call's options need (`runtime.launch`), and calls one kernel. The kernel hands its pieces to the
team of threads by a word in shared memory (`runtime.handover`); `runtime.threads` starts the team, and wakes it. Calls that
come again with the same shapes keep their arguments in place (`recurrence.call_list`, `recurrence.inference`).

Errors and how they are handled
-------------------------------
* A file of code is damaged: its checksum differs; the function is compiled again, with one warning (`runtime.cache`).
* A file or folder belongs to another user, or is writable by others: it is not used, with one warning.
* No folder is writable: each process compiles again, with one warning.
* Ctrl-C while code is compiled or loaded: KeyboardInterrupt is raised afterwards (`runtime.interrupts`).
* Ctrl-C in a long call: the main thread waits for a helper thread, which stops between chunks of time steps
  (`runtime.threads.run_interruptibly`).
* A kernel calls a function that was not compiled before the call: it ends, and this call and all later ones raise
  `RuntimeError` (`runtime.linking.check`). Kernels never call Python.
* Several Python threads call at once: each job of a kernel claims the team, or runs on the calling thread alone.
* The process forks: the fork waits until no thread compiles; the child starts its own team.
* Other processes use the cores: if calls wait for the team, it is not used for a while.
"""
