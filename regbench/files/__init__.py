"""The only file formats of regbench: images, label maps, landmarks, displacement fields.

    images   read_image, read_labels, read_landmarks, write_image, write_labels
    fields   load_field, save_field, read_ants_transforms, ...
    itk      SimpleITK images and transforms in memory

What cannot be read raises DatasetError, what cannot be written StoreError, each with one sentence that
begins with the path. Files are written under a temporary name and renamed, so none is ever half-written.
"""
