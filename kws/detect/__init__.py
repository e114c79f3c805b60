"""The live path: chunks ─▶ encoder stream ─▶ head ─▶ scores ─▶ trigger ─▶ detections."""
