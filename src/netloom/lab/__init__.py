"""Several hosts on one machine: network namespaces with a real agent in each."""
