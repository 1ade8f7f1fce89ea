"""The proxy of backend ``udp``: the program, its control socket, and its place in the kernel."""
