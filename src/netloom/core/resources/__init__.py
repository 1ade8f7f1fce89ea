"""Resources as Calico's users write them: which kinds there are, and what their specs say.

``table`` lists the kinds; a module here reads the specs of one subject. What a resource changes in
the network is decided where that subject is at home (``core/bgp``, ``core/ipam``, …).
"""
