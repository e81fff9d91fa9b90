"""From a folder of videos and a spreadsheet of labels to a model folder, and from that to detections."""
