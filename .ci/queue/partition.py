def partition(*a): raise SystemExit
