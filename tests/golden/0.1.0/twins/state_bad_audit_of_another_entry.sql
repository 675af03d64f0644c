DROP TRIGGER debits_are_append_only_u;
DROP TRIGGER debits_are_append_only_d;
DROP TRIGGER audit_is_append_only_u;
DROP TRIGGER audit_is_append_only_d;
UPDATE audit SET signature = (SELECT signature FROM audit WHERE seq = 6) WHERE seq = 5;
