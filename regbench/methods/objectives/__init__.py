"""What registration minimises: similarity of images, regularity of fields, overlap of label maps.

Networks are trained with these objectives, and single pairs are registered with them. Tensors are
(B, C, *shape) in 2-D or 3-D, displacements as in `methods.nets.spatial`. Every objective is a scalar tensor,
the mean over the batch, smaller where the registration is better; it works in float32 (float64 stays) whatever
the type of its inputs, also under autocast.
"""
