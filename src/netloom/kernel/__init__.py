"""The host's kernel: netlink, nftables, sysctls, tc, namespaces."""
