"""The data scientist's door. The only room that knows both sides; nobody imports it."""
