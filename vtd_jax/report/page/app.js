// The page as its address says: a link or a reload shows the same again.
controls.show();
choosing.show();
memory.settle();
encoding.need();
