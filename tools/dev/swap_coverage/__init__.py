"""How many of mm's own configs take XCiT: all are tried, and a document says so."""
