"""The compiled engine: all code that uses Numba.

`numba_private` has all uses of private names of Numba, `runtime` compiles, links and caches functions and distributes work
to threads, `kernels` are functions of arrays, `recurrence` runs cells over sequences, and `equations` makes cells from
Python functions. Each imports only from those before it.

How a function becomes machine code
-----------------------------------
`runtime.jit` marks a function to be compiled at its first call with arguments of new types. What it calls becomes a part of
it, or is compiled once by itself (`runtime.linking`); `runtime` describes these ways. Numba turns it into LLVM's language,
and LLVM into machine code, in one round (`numba_private.pipeline`). Of a function that only kernels call, a thread makes the
machine code, while Numba goes on with the next function (`numba_private.background`). `runtime.cache` keeps the code in a
file, so that later processes only load it; loaded code gets the addresses of the functions that it refers to from LLVM's
linker (`numba_private.symbols`).

How a call reaches it
---------------------
`recurrence.run` decides on blocks of rows and threads (`recurrence.plans`), takes memory (`runtime.memory`), has everything
compiled that the call's options need (`runtime.launch`), and calls one kernel. The kernel hands its pieces to the
team of threads by a word in shared memory (`runtime.handover`); `runtime.threads` starts the team, and wakes it. Calls that
come again with the same shapes keep their arguments in place (`recurrence.call_list`, `recurrence.inference`).

What may go wrong, and what is done
-----------------------------------
* Numba is newer than those that were tried: `numba_private.services` chooses the stock path, with one warning; kernels are
  compiled by public functions (`numba_private.stock`), slower, in one thread, and not kept in files.
* A file of code is damaged: its checksum says so; the function is compiled again, with one warning (`runtime.cache`).
* A file or folder belongs to another user, or others may write to it: it is not used, with one warning.
* No folder can be written to: each process compiles again, with one warning.
* Ctrl-C while code is compiled or loaded: it is raised when that is done (`runtime.interrupts`).
* Ctrl-C in a long call: the main thread waits for a helper, which stops between chunks of time steps
  (`runtime.threads.run_interruptibly`).
* A kernel calls a function that was not compiled before the call: it ends, and this call and all later ones raise
  `RuntimeError` (`runtime.linking.check`). Kernels never call Python.
* Several Python threads call at once: each job of a kernel claims the team, or is done alone.
* More threads are asked for than there are: one warning says how many are used (`runtime.threads.resolve`).
* The process forks: the fork waits until no thread compiles; the child starts a team of its own.
* Other processes use the cores: where calls wait for the team, it rests for a while.
"""
