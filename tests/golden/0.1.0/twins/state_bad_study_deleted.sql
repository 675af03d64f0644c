DROP TRIGGER debits_are_append_only_u;
DROP TRIGGER debits_are_append_only_d;
DROP TRIGGER audit_is_append_only_u;
DROP TRIGGER audit_is_append_only_d;
DELETE FROM debits WHERE study = '65d04692ee640537f0a8cdbe8f6ca9bb3efb841b8a334cf28c85f673a09f6930';
DELETE FROM plans WHERE study = '65d04692ee640537f0a8cdbe8f6ca9bb3efb841b8a334cf28c85f673a09f6930';
DELETE FROM studies WHERE digest = '65d04692ee640537f0a8cdbe8f6ca9bb3efb841b8a334cf28c85f673a09f6930';
