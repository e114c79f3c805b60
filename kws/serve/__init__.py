"""Detection for other programs: Wyoming and WebSocket clients ─▶ a session each ─▶ one detector, a few workers."""
