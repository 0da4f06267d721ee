"""The inventory of boards, their leases, and checks that do not boot them. Listing boards and reporting that one is
unreachable needs only this package, and nothing in it is slow to import."""
