"""What runs inside the virtual machine, on a kernel with GRE. Started by ``tests.interop.linux``.

Nothing here is run on the machine itself: it would not end well without the kernel's GRE.
"""
