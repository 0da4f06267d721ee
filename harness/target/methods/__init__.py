"""Boot methods: one table, and one or two modules for each entry."""
