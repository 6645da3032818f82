"""What the intensities of a dataset tell of its labels, before any registration: subject by subject, once each.

`subject` measures one image with its labels, `survey` all subjects of a dataset in parallel and in constant memory,
`record` keeps what was measured in files. All information is that of `regbench.metrics.information`, so that the
numbers are those of the metrics `mi_nats`, `mi_ratio` and `mi_jena_nats`.
"""
