-- Each of the two services with state has a schema of its own; the tables they make themselves.
CREATE SCHEMA campaign;
CREATE SCHEMA filtering;
