DROP TRIGGER debits_are_append_only_u;
DROP TRIGGER debits_are_append_only_d;
DROP TRIGGER audit_is_append_only_u;
DROP TRIGGER audit_is_append_only_d;
DELETE FROM audit WHERE seq = 5;
UPDATE audit SET seq = -seq WHERE seq > 5;
UPDATE audit SET seq = -seq - 1 WHERE seq < 0;
