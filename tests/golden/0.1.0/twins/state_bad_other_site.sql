UPDATE meta SET value = 'south' WHERE key = 'site';
