"""Device and precision, distributed training, nearest neighbours, private names of other libraries."""
