"""Which loop works in which process, and the page of memory in which each sees that it must stop."""
