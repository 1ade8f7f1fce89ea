"""flannel's formats: its etcd layout and subnet.env, read and written as flannel's daemon does.

``config``, ``lease`` and ``subnet_env`` are pure: bytes and text on one side, our model on the
other. ``adapter`` puts them around any store, so that an agent of ours works on flannel's keys.
"""
