"""Boot methods: one table, and a module or two for each entry."""
