"""BIRD, the routing daemon: started, told its configuration, asked, watched."""
