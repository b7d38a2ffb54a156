"""The replicated store: tables, indexes, selectors, transactions and watches over the objects of a swarm."""
