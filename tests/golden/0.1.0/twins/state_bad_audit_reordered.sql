DROP TRIGGER debits_are_append_only_u;
DROP TRIGGER debits_are_append_only_d;
DROP TRIGGER audit_is_append_only_u;
DROP TRIGGER audit_is_append_only_d;
UPDATE audit SET seq = -1 WHERE seq = 5;
UPDATE audit SET seq = 5 WHERE seq = 6;
UPDATE audit SET seq = 6 WHERE seq = -1;
